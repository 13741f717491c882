# The package: a file that `make deb` built, or nil for one of a repository of yours.
default['zonecast']['deb'] = nil

# What stands in /etc/zonecast/zonecast.toml, by section; '' are the options above all
# sections. See `zonecast run example`.
default['zonecast']['options'] = {
  '' => {
    'store' => 'etcd://127.0.0.1:2379'
  },
  'host' => {
    'name' => node['fqdn'] || node['hostname'],
    'run' => %w(agent authority)
  },
  'authority' => {
    'listen' => ['127.0.0.1:53']
  }
}

# The publisher's public keys (PEM, one after another).
default['zonecast']['publisher_keys'] = nil

# Takes port 53 from systemd-resolved, which stays the machine's way to the Internet.
default['zonecast']['free_port_53'] = false
