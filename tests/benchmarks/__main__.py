"""Measure in a process that reaches no other machine, whatever the libraries in it would like to."""

import sys

from tests.benchmarks.loopback import refuse_other_hosts
from tests.benchmarks.main import main
from tests.benchmarks.processes import discard_log, leave_proxies

leave_proxies()
discard_log()
sys.addaudithook(refuse_other_hosts)
sys.exit(main())
