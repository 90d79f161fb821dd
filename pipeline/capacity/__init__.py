"""How much a machine carries (`oddwatch plan`): costs measured here come in; cores, memory and hosts for so many
cameras go out.
"""
