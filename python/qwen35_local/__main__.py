"""`python -m qwen35_local` is `qwen35`."""

from qwen35_local.cli.main import main

main()
