"""The console: pages for the people who manage keys. Needs the extra `admin`."""
