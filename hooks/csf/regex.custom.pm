# Postern's refusals are no wrong passwords: lfd, the login failure daemon of CSF, does not count them.
#
# Where      /usr/local/csf/bin/regex.custom.pm, in sub custom_line, below the line "Do not edit before this point"
#            and before every other rule; then `csf -ra`. What this file says of a line goes before lfd's own rules.
# Calls      postern was-refused, as lfd's user (root), for each line in which Exim or Dovecot tell of a login that
#            failed: has Postern refused a login from this address so many seconds before? An address from which wrong
#            passwords came as well, three different ones within an hour, is spared nothing. For a line that it spares,
#            a rule is named and no address, so that lfd counts it for nobody.
# If gone    Postern or its state is missing, in trouble, or takes longer than 3 seconds: lfd counts the line by its own
#            rules, as without this.
#
# Only the server's own words and the address before and after them are looked at: what stands in set_id= and user= is
# the client's.

	{
		my ($address, $within);
		if ($line =~ /^(?:\S+ ){2}(?:[+-]\d{4} )?(?:\[\d+\] )?\w+ authenticator failed for (?:\S+ )?(?:\([^\s)]*\) )?\[([0-9a-fA-F.:]+)\](?::\d+)?(?: I=\[[0-9a-fA-F.:]+\](?::\d+)?)?: 535 Incorrect authentication data/) {
			($address, $within) = ($1, 15);
		} elsif ($line =~ /^[^<]*(?:imap|pop3|managesieve)-login: [^<]*\(auth failed, \d+ attempts[^<]*: (?:user=<[^<>]*>, )?(?:method=[A-Za-z0-9-]+, )?rip=([0-9a-fA-F.:]+),/) {
			# Written at the end of the connection.
			($address, $within) = ($1, 300);
		}
		if (defined $address) {
			local $SIG{CHLD} = 'DEFAULT';
			local $?;
			my $ended = system { '/usr/bin/timeout' } 'timeout', '3', '/usr/sbin/postern', 'was-refused',
				"--within=$within", $address;
			return ("Refused by Postern", "", "postern", "1000000", "", "1", "0") if $ended == 0;
		}
	}
