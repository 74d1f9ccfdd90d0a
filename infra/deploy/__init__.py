"""Build the function's zip and deploy the stack."""
