"""ramet inside other people's trainers: each module is a whole hook on public names, to be copied and changed."""
