"""One program per peer: reads the documents, trains and tests, prints its figures as one line of JSON.

They run in environments of their own, without newsreel: `python -m bench.peers.<name> <documents> …`.
"""
