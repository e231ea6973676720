"""The skills of the demo model: each module makes exchanges of one kind from a seeded random source."""
