"""The command `dnnfusion`: one file per command, loaded when it is called.

`main` is the entry point; it is the only place where exceptions become messages and exit codes.
"""

from tvm_dnnfusion.cli.app import main

__all__ = ["main"]
