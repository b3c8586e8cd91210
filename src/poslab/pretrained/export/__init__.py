"""Directories of Hugging Face's transformers, written from models of Poslab."""
