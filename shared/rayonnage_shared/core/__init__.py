"""What everything else stands on: errors, settings, the process list, facts about the host, files."""
