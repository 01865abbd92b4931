"""The command `ak-guard`."""
