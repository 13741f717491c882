# A DNS host: what docs/host.md does by hand.

keys = node['zonecast']['publisher_keys']
raise "node['zonecast']['publisher_keys'] is not set: expected the publisher's public keys (publisher.key.pub)" unless keys

runs = node['zonecast']['options'].fetch('host', {}).fetch('run', %w(agent authority))

package 'unbound' if runs.include?('recursor')

# The recursor starts Unbound itself.
service 'unbound' do
  action [:disable, :stop]
  only_if { runs.include?('recursor') }
end

if node['zonecast']['free_port_53']
  directory '/etc/systemd/resolved.conf.d'

  file '/etc/systemd/resolved.conf.d/zonecast.conf' do
    content "[Resolve]\nDNSStubListener=no\n"
    notifies :restart, 'service[systemd-resolved]', :immediately
  end

  link '/etc/resolv.conf' do
    to '/run/systemd/resolve/resolv.conf'
  end

  service 'systemd-resolved' do
    action :nothing
  end
end

if node['zonecast']['deb']
  dpkg_package 'zonecast' do
    source node['zonecast']['deb']
  end
else
  package 'zonecast'
end

file '/etc/zonecast/publisher.key.pub' do
  content keys
  mode '0644'
  notifies :reload, 'service[zonecast-host]'
end

template '/etc/zonecast/zonecast.toml' do
  source 'zonecast.toml.erb'
  group 'zonecast'
  mode '0640'
  variables options: node['zonecast']['options']
  # Wrong options never take the place of right ones: none of them would start.
  verify 'zonecast host options --config %{path}'
  notifies :reload, 'service[zonecast-host]'
end

# Reloading replaces the daemons without a lost query.
service 'zonecast-host' do
  supports reload: true
  action [:enable, :start]
end
