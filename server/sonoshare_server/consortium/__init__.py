"""What a coordinator does: terms and plans of studies, who is admitted, what is published and revoked."""
