"""Tables of sequences, whatever they are about: the format `table` and the tokenizer `columns`."""
