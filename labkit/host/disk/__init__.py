"""A loop device of the lab's own: attached, limited, formatted, mounted where nobody sees it, and gone."""
