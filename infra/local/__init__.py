"""Run the whole pipeline on this machine: an AWS stand-in, the real template, the real zip."""
