"""Decisions. No boto3, no powertools, no environment, no clock of its own."""
