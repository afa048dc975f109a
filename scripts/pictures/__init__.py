"""The pictures of the documentation, drawn by scripts: ``make pictures`` makes all of them anew."""
