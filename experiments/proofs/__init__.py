"""The battery's verdicts, kept with the code they were passed on: how a run finds its own, and how it is shown."""
