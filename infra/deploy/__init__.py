"""Build the function's zip, deploy the stack, and check the installation."""
