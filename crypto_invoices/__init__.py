"""Be paid in cryptocurrency from a Django shop, through hosted gateways."""

__version__ = "0.1.0"
