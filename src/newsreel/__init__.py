"""newsreel: text-classification baselines, from a bag of words to recurrent and convolutional networks."""

__version__ = "0.1.0"
