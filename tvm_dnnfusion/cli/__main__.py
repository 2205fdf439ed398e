"""`python -m tvm_dnnfusion.cli`: the command `dnnfusion` where no script is installed."""

from tvm_dnnfusion.cli.app import main

if __name__ == "__main__":
    main()
