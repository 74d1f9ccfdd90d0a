"""What happened, on record: audited actions, their history, evidence compared with outcomes."""
