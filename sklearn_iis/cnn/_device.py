"""The device that a network trains on, and the precision that it computes in."""

import torch

# Two names of the same.
PROCESSOR = ("cpu", "cpu:0")


def resolve_device(device: str) -> torch.device:
    """Return the device of a name; for "auto" the GPU, if there is one.

    Raises
    ------
    ValueError
        If there is no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    # A process that is to be forked must not ask for GPUs if it needs none.
    elif device not in PROCESSOR and device not in (devices := list_devices()):
        raise ValueError(
            f"there is no device {device!r}: choose one of {', '.join(devices)}"
        )
    return torch.device(device)


def list_devices() -> list[str]:
    """Return the names of the devices that there are."""
    names = ["auto", "cpu"]
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None:
        kind, n_devices = accelerator.type, torch.accelerator.device_count()
        names += [kind, *(f"{kind}:{i}" for i in range(n_devices))]
    return names


def resolve_precision(precision: str, device: torch.device) -> str:
    """Return "bfloat16" for "auto" where the device multiplies in it."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        bfloat16 = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities = torch.cpu.get_capabilities()
        bfloat16 = any(capabilities.get(k) for k in ("avx512_bf16", "amx_bf16"))
    return "bfloat16" if bfloat16 else "float32"
