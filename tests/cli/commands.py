"""Commands as a user types them, and what they answer."""

from jaxgen.cli import main

SMALL = ["--hidden", "8", "--latents", "2", "--importance-samples", "0", "--batch-size", "16", "--devices", "1"]
TRAIN = ["train", "vae", *SMALL, "--steps", "4", "--binarize", "threshold"]


def refused(capsys, *arguments: str) -> str:
    """The one sentence on standard error of a command that a user got wrong."""
    capsys.readouterr()
    try:
        code = main(list(arguments))
    except SystemExit as stop:  # tyro's own way
        code = stop.code
    out, err = capsys.readouterr()
    assert code == 2
    assert "Traceback" not in out + err
    assert out == ""
    return err


def sentence(capsys, *arguments: str) -> str:
    *waiting, message = refused(capsys, *arguments).splitlines(keepends=True)
    assert all(line.endswith(" …\n") for line in waiting)
    assert message.startswith("jaxgen: ")
    return message


def help_of(capsys, *arguments: str) -> str:
    capsys.readouterr()
    try:
        code = main([*arguments, "--help"])
    except SystemExit as stop:
        code = stop.code
    assert not code
    return capsys.readouterr().out
