"""What decoding costs, ours and others', on the same prompts in one run: `python -m experiments.bench`."""
