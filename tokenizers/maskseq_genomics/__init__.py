"""Genomics for maskseq: DNA, RNA and protein sequences, their file formats and their tokenizers."""
