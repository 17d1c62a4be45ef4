"""`python -m sklearn_iis`: the same as the command `sklearn-iis`."""

from sklearn_iis.command import main

if __name__ == "__main__":
    main()
