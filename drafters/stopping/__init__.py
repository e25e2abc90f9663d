"""When a drafter stops drafting. One rule, one file, one YAML in `conf/drafter/stopping`."""
