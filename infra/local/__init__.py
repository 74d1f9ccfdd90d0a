"""The whole pipeline on this machine: an embedded AWS, the real template, the real zip."""
