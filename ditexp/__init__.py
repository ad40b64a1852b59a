"""ditexp: what does each way of sampling a DiT / rectified-flow model cost, and what quality does it buy?"""

__version__ = "0.1.0"
