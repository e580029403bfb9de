"""Event logs: cases of events with activities, attributes and time, from the formats that people keep them in."""
