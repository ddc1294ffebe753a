"""newsreel: text-classification baselines, from bag of words to LSTM, on reviews, newswires and your own corpus."""

__version__ = "0.1.0"
