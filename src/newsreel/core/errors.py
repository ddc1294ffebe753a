"""What goes wrong because of what the user gave: shown as one message, without a traceback."""


class UserError(ValueError):
    """Input that breaks a rule. The message names what was read, the value, the rule and the remedy."""
