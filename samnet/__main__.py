import sys

from samnet.cli.main import main

sys.exit(main())
