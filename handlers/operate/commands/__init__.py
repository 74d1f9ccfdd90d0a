"""The commands of the operators' tool, one file each, named as the command."""
