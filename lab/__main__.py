"""`python -m lab`."""

from lab import interrupts

interrupts.install()  # before the imports, which take a second in which Ctrl-C may come
try:
    from lab.cli import main

    main()
except interrupts.Interrupted as error:
    raise SystemExit(error.exit_code) from None
