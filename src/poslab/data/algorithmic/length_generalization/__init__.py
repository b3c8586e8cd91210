"""The ten tasks of Kazemnejad et al., and their variants.

Source: "The Impact of Positional Encoding on Length Generalization in Transformers" (NeurIPS 2023).
"""
