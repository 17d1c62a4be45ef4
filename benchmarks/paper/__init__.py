"""The experiments of Hinz et al. (2018), and those that they left open."""
