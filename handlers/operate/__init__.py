"""The operator's tool. Never part of the function's zip."""
