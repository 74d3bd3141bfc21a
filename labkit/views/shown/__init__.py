"""Objects of the lab become sheets: title, facts, a strip and tables, as text and as HTML; no drawing library."""
