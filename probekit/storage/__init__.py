"""Files that are complete or absent, digested, locked and resumable; knows no science."""
