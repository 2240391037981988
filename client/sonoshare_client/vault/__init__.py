"""The vault: sealed, de-identified images under keyed pseudonyms, and the arrays that training and audits take."""
