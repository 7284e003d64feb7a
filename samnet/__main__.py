import sys

from samnet.cli.umbrella import main

sys.exit(main())
