"""What starts, and its wiring. Entry points here, decisions in `core`, AWS in `aws`."""
