"""maskseq: masked modeling for sequences that are not text."""
