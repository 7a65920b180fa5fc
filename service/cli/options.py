"""Options that several commands have in common."""

from typing import Annotated

import typer

Member = Annotated[
    str | None,
    typer.Option(
        help='Member of the file that holds the network, such as state_dict_ema; dots lead inwards, "" is the top.'
    ),
]
Prefix = Annotated[
    str | None, typer.Option(help='What stands before the network\'s keys, such as student.backbone; "" is no prefix.')
]
