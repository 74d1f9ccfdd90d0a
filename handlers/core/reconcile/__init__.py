"""What the organization is, against what it must be."""
