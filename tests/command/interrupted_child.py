"""The command, interrupted when it is about to import a module.

python -m tests.command.interrupted_child MODULE ARGUMENTS...
"""

import os
import runpy
import signal
import sys


class Interrupt:
    """Finds no module, but interrupts the process when it is asked for one."""

    def __init__(self, name):
        self.name = name

    def find_spec(self, name, path=None, target=None):
        if name == self.name:
            self.name = None
            os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    sys.meta_path.insert(0, Interrupt(sys.argv.pop(1)))
    runpy.run_module("sklearn_iis", run_name="__main__", alter_sys=True)
