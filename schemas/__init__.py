"""The contracts: what arrives, what is remembered, what is proven. Models without I/O."""
