# An operator rotates with the role's own grace period. Denying only the value 0 is not enough, because it can
# be written in many ways.
# Checked by `scripts/test policies`.
path "openrouter/rotate-role/*" {
  capabilities      = ["update"]
  denied_parameters = { "rotation_grace_period" = [] }
}
