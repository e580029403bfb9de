"""Runs on the Hugging Face hub: fetched into a folder of plain files, and sent there. Nothing that is fetched runs."""

from pathlib import Path
from typing import Any

from maskseq.errors import MaskseqError, UsageError

SCHEME = "hf://"
WANTED = ("*.json", "*.safetensors", "*.md", "corpus/*")
"""What a shared run consists of; nothing else is fetched."""


def is_address(place: object) -> bool:
    """Whether this names a run on the hub; a path of it has lost a slash."""
    return str(place).startswith("hf:/")


def fetched(address: str) -> Path:
    """The folder that `hf://organization/name`, or `…/name@revision`, has been fetched into.

    Raises:
        UsageError: The address is none, or huggingface_hub is not installed.
        MaskseqError: It cannot be fetched.
    """
    name, revision = _parsed(address)
    hub = _hub()
    folder = Path(hub.constants.HF_HOME) / "maskseq" / name.replace("/", "--") / (revision or "main")
    try:
        hub.snapshot_download(name, revision=revision, local_dir=folder, allow_patterns=list(WANTED))
    except Exception as error:  # of the network, of the hub, of its answers
        raise MaskseqError(
            f"{address}: {_first_line(error)}\n\nhint: check the name, the network and HF_TOKEN"
        ) from None
    return folder


def sent(folder: Path, address: str) -> str:
    """Upload a folder; where it is to be seen."""
    name, revision = _parsed(address)
    hub = _hub()
    try:
        api = hub.HfApi()
        api.create_repo(name, exist_ok=True)
        found = api.upload_folder(repo_id=name, folder_path=folder, revision=revision, commit_message="Add a run")
    except Exception as error:
        raise MaskseqError(
            f"{address}: {_first_line(error)}\n\nhint: `hf auth login`, or HF_TOKEN, says who you are"
        ) from None
    return str(found)


def _parsed(address: str) -> tuple[str, str | None]:
    name, _, revision = address.removeprefix(SCHEME).removeprefix("hf:/").partition("@")
    parts = name.strip("/").split("/")
    if len(parts) != 2 or not all(each.replace("-", "").replace("_", "").replace(".", "").isalnum() for each in parts):
        raise UsageError(
            f"{address}: expected hf://organization/name, or hf://organization/name@revision", code="bad-option"
        )
    return "/".join(parts), revision or None


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise UsageError(
            "hf:// needs huggingface_hub\n\nhint: pip install 'maskseq[hub]'", code="missing-extra"
        ) from None
    return huggingface_hub


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
