"""Templates, policies, and the code behind `make`."""
